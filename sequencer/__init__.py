"""The packager's program: captures an installation, packs, signs, inspects and verifies it."""
