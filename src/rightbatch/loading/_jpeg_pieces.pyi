from typing_extensions import Buffer

def decode(
    content: Buffer, divisor: int, box: tuple[int, int, int, int], out: Buffer, /
) -> bool: ...
