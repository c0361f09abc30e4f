"""A stream's money: reserved, committed and spent, never above its limit; every movement with who and why."""
