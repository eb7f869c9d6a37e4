"""`python -m dnnc` is the command `dnnc`."""

from dnnc.cli import main

if __name__ == "__main__":
    main()
