"""Operations: one file a family, and in it everything the compiler knows about its members.

``table`` finds the rule for a target; ``operation`` is the contract that a rule fulfils.
"""
