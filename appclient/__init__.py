"""The user's program: sign in, see what is published, stream it, run it."""
