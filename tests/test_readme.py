"""The README's Python blocks run, one after the other, and print what it says they print."""

import re
from pathlib import Path

import jax
import numpy as np
import pytest

TEXT = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```\n(?:\n```text\n(.*?)```)?", TEXT, re.DOTALL)
NUMBER = re.compile(r"-?\d+\.?\d*")


def test_blocks_print_what_the_readme_says(tmp_path, monkeypatch, capsys):
    assert len(BLOCKS) == 2
    monkeypatch.chdir(tmp_path)
    names = {}
    for code, expected in BLOCKS:
        with jax.numpy_dtype_promotion("standard"):  # as users have it: Adam of optax promotes its count
            exec(compile(code, "README.md", "exec"), names)
        printed = capsys.readouterr().out
        assert NUMBER.sub("#", printed) == NUMBER.sub("#", expected)
        # Printed with two or three digits: compilers and thread counts change the last one.
        found, told = (np.array(NUMBER.findall(text), float) for text in (printed, expected))
        np.testing.assert_allclose(found, told, rtol=0.03, atol=0.02)
    assert (tmp_path / "parity.png").stat().st_size > 1000
    losses = np.array(names["losses"])
    assert losses[-4:].mean() < losses[:4].mean()  # the loop of one's own trains


@pytest.mark.parametrize("link", re.findall(r"\]\(([^)#]+)\)", TEXT))
def test_links_lead_somewhere(link):
    assert (Path(__file__).parent.parent / link).exists()
