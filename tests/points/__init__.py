"""What each topic promises, measured: `tests/show TOPIC [POINT...]`."""
