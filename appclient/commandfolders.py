"""What every command starts from: the folders of whoever runs it."""

from __future__ import annotations

import argparse
import os

from appclient.folders import Folders, folders_of

Subparsers = argparse._SubParsersAction  # argparse gives it no public name


def own_folders() -> Folders:
    """Return the client's folders of the user that runs this process."""
    return folders_of(os.environ, os.geteuid())
