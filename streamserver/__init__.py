"""The stream server: stores packages, knows users and what they may run, publishes and streams."""
