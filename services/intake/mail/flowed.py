"""Text sent as format=flowed, with its paragraphs made whole again (RFC 3676)."""

SIGNATURE = "-- "


def unflowed(text: str, *, delete_space: bool = False) -> str:
    """`delete_space` is the parameter DelSp=yes: the space that ends a flowed line is none of the text's."""
    lines: list[str] = []
    paragraph: list[str] = []
    depth = 0
    for line in text.split("\n"):
        content = line.lstrip(">")
        quotes = len(line) - len(content)
        content = content.removeprefix(" ")  # space-stuffing, section 4.4
        if paragraph and (quotes != depth or content == SIGNATURE):
            lines.append(_quoted(depth, "".join(paragraph)))
            paragraph = []
        depth = quotes
        flows = content.endswith(" ") and content != SIGNATURE
        paragraph.append(content[:-1] if flows and delete_space else content)
        if not flows:
            lines.append(_quoted(depth, "".join(paragraph)))
            paragraph = []
    if paragraph:
        lines.append(_quoted(depth, "".join(paragraph)))
    return "\n".join(lines)


def _quoted(depth: int, text: str) -> str:
    return f"{'>' * depth} {text}" if depth else text
