"""The virtual environment of a running application: streamed view, overlay, sandbox."""
