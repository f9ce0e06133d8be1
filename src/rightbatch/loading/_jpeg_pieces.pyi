from typing_extensions import Buffer

def header(content: Buffer, /) -> tuple[int, int, int, bytes] | None: ...
def decode(
    content: Buffer,
    divisor: int,
    box: tuple[int, int, int, int],
    is_mirrored: bool,
    out: Buffer,
    /,
) -> bool: ...
