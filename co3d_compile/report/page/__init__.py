"""The report to look at: a page of HTML, and a drawing along time. All numbers are the report's."""
