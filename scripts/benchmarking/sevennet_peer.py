"""The sevenn side: SevenNet-0 by torch on one thread, CPU seconds an atom of energy, forces and stress. No JAX here."""

import sys
import time

import ase.io


def main(path: str) -> None:
    """Time all structures of a file, one after the other as its calculator takes them; print the least of five."""
    import torch  # pyright: ignore[reportMissingImports]
    from sevenn.calculator import SevenNetCalculator  # pyright: ignore[reportMissingImports]

    torch.set_num_threads(1)
    calculator = SevenNetCalculator("7net-0", device="cpu")
    frames = list(ase.io.iread(path))
    times = []
    for _ in range(6):  # the first compiles
        start = time.process_time()
        for atoms in frames:
            calculator.calculate(atoms)
        times.append(time.process_time() - start)
    print(min(times[1:]) / sum(map(len, frames)))


if __name__ == "__main__":
    main(sys.argv[1])
