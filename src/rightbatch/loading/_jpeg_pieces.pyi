from typing_extensions import Buffer

def header(content: Buffer, /) -> tuple[int, int, bytes] | None: ...
def decode(
    content: Buffer,
    divisor: int,
    box: tuple[int, int, int, int],
    is_mirrored: bool,
    to_end: bool,
    out: Buffer,
    /,
) -> bool: ...
