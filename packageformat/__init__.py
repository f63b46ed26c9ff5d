"""What every program of Millstream must agree on: bytes to values and back. Pure: no I/O, no clock."""
