"""`stepsearch serve`: a trained agent behind OpenAI's chat completions."""

import argparse
import json
import os
import socket
from pathlib import Path

from rich.console import Console

from stepsearch.cli.progress import open_console, say
from stepsearch.cli.saved_agent import open_saved_agent
from stepsearch.cli.serve_search import TOKEN_VARIABLE
from stepsearch.serving import AgentApp, AgentSettings, address_of, is_loopback, listen, serve


def run(args: argparse.Namespace) -> None:
    """Answer questions over HTTP until told to stop.

    Raises:
        ConfigError: a flag or setting is wrong, the address is taken, or a package is missing.
        DataError: the knowledge base is not there.
        ModelError: the model cannot be loaded.
    """
    token = args.token or os.environ.get(TOKEN_VARIABLE) or None
    # Of `.` and `..`, too, the folder has a name.
    folder = Path(os.path.abspath(args.model_path))
    settings = AgentSettings(args.name or folder.name, args.max_open, token)
    console = open_console()
    # An address that is taken is said before the model is loaded.
    with listen(args.host, args.port) as listener:
        player = open_saved_agent(args, console)
        runner = player.watched_runner(player.config.evaluation.temperature)
        _introduce(listener, args.host, settings, console)
        serve(lambda: AgentApp(runner, settings), listener)
    say(console, "stopped")


def _introduce(listener: socket.socket, host: str, settings: AgentSettings, console: Console) -> None:
    """Print where the server is, and how it is asked."""
    url = address_of(listener, host)
    header = "" if settings.token is None else "-H 'Authorization: Bearer TOKEN' "
    body = json.dumps({"model": settings.name, "messages": [{"role": "user", "content": "Who …?"}]}, ensure_ascii=False)
    say(console, f"serving on {url} as model {settings.name}; Ctrl-C stops")
    say(console, f"  try: curl {url}/v1/chat/completions -H 'Content-Type: application/json' {header}-d '{body}'")
    say(console, "  a request is one question: the last message of its user")
    say(console, f"  see: {url}/docs, /v1/models, /healthz")
    if settings.token is None and not is_loopback(listener):
        say(console, f"  warning: whoever reaches {host} can ask; --token asks for a password")
