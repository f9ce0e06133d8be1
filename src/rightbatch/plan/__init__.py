"""Which samples, in which order: integers in, integers out.

Splits, permutations, batch boundaries, ranks and the cursor. Nothing here reads data, knows a
column or imports torch, so every law about order and splits is tested with integers alone.
"""
