"""What `steady` runs: five things that people do, without a display."""

from __future__ import annotations

from dataclasses import dataclass

SHORT, LONG = 20, 7
"""Pairs of runs: of those that take less than a second, and of those that take more."""


@dataclass(frozen=True, slots=True)
class Workload:
    """A line of shell to run in a bubble of `package`; `prepare` runs once before, in the private home."""

    name: str
    package: str
    command: str
    repeats: int
    prepare: tuple[str, ...] = ()


_DRAWING = (
    '<svg xmlns="http://www.w3.org/2000/svg" width="400" height="300">'
    + "".join(
        f'<circle cx="{20 + 18 * number % 360}" cy="{20 + 31 * number % 260}" r="{5 + number % 17}" '
        f'fill="#{number * 2113 % 4096:03x}"/>'
        for number in range(60)
    )
    + '<text x="20" y="280" font-size="24">Millstream</text></svg>'
)
_LETTER = "".join(
    f"Paragraph {number}. The mill stands by the stream, and the stream turns the mill.\\n\\n"
    for number in range(200)
)
_SCRIPT = (
    '(let* ((i (car (gimp-image-new 400 300 RGB))) (l (car (gimp-layer-new i 400 300 RGB-IMAGE "l" 100 0)))) '
    "(gimp-image-insert-layer i l 0 0) (gimp-drawable-fill l 2) (plug-in-gauss 1 i l 9 9 0) "
    '(file-png-save 1 i l "out.png" "out.png" 0 9 0 0 0 0 0) (gimp-quit 0))'
)

WORKLOADS = {
    workload.name: workload
    for workload in (
        Workload("python-import-numpy", "python-numpy", "python3 -c 'import numpy'", SHORT),
        Workload(
            "soffice-to-pdf",
            "libreoffice-writer",
            "rm -f in.pdf && soffice --headless --convert-to pdf in.txt && test -s in.pdf",
            LONG,
            (f"printf '{_LETTER}' > in.txt",),
        ),
        Workload(
            "gimp-batch",
            "gimp",
            f"rm -f out.png && gimp-console -i -d -s -b '{_SCRIPT}' && test -s out.png",
            LONG,
        ),
        Workload(
            "inkscape-export",
            "inkscape",
            "rm -f out.png && inkscape --export-type=png --export-filename=out.png in.svg && test -s out.png",
            LONG,
            (f"printf '%s' '{_DRAWING}' > in.svg",),
        ),
        Workload(
            "process-starts",
            "python-numpy",
            "i=0; while [ $i -lt 100 ]; do /bin/true; i=$((i+1)); done",
            SHORT,
        ),
    )
}
