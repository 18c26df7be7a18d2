"""`stepsearch serve-search`: a search engine behind HTTP or MCP."""

import argparse
import asyncio
import importlib
import os
import socket
import tempfile
from functools import partial
from pathlib import Path

from stepsearch.cli.searching import search_settings
from stepsearch.config import SearchSettings
from stepsearch.search import SearchEngine, build_search_engine
from stepsearch.serving import AppFactory, ServerSettings, address_of, is_loopback, listen, serve

TOKEN_VARIABLE = "STEPSEARCH_TOKEN"


def run(args: argparse.Namespace) -> None:
    """Serve the engine that flags and settings name until told to stop.

    Raises:
        ConfigError: a flag or setting is wrong, the address is taken, or a package is missing.
        DataError: the knowledge base cannot be read.
        SearchError: the engine cannot be built.
    """
    search = search_settings(args)
    settings = server_settings(args, search)
    # Built here even for workers that build their own: what is wrong is said once, and before anything listens.
    if args.mcp or args.mcp_http:
        importlib.import_module("stepsearch.serving.mcp_server")
    engine = build_search_engine(search)
    if args.mcp:
        _serve_stdio(engine, search, settings)
    else:
        _serve_http(args, engine, search, settings)


def server_settings(args: argparse.Namespace, search: SearchSettings) -> ServerSettings:
    """Return the server's settings.

    Raises:
        ConfigError: a bound is impossible.
    """
    return ServerSettings(
        top_k=search.top_k,
        max_batch=args.max_batch,
        batch_milliseconds=args.batch_milliseconds,
        max_waiting=args.max_waiting,
        max_request_bytes=args.max_request_bytes,
        max_queries=args.max_queries,
        max_query_characters=args.max_query_characters,
        max_top_k=args.max_top_k,
        token=args.token or os.environ.get(TOKEN_VARIABLE) or None,
    )


def _serve_stdio(engine: SearchEngine, search: SearchSettings, settings: ServerSettings) -> None:
    from stepsearch.serving.mcp_server import serve_stdio

    asyncio.run(serve_stdio(engine, search, settings))


def _serve_http(
    args: argparse.Namespace, engine: SearchEngine, search: SearchSettings, settings: ServerSettings
) -> None:
    with listen(args.host, args.port) as listener, tempfile.TemporaryDirectory(prefix="stepsearch-") as folder:
        _introduce(listener, args, search, settings)
        build = (lambda: engine) if args.workers == 1 else partial(build_search_engine, search)
        if args.workers > 1:
            engine.close()
        mcp_host = args.host if args.mcp_http else None
        serve(AppFactory(build, search, settings, Path(folder), mcp_host), listener, args.workers)
    print("stopped", flush=True)


def _introduce(
    listener: socket.socket, args: argparse.Namespace, search: SearchSettings, settings: ServerSettings
) -> None:
    """Print where the server is, and how it is asked."""
    url = address_of(listener, args.host)
    corpus = f", knowledge base {search.knowledge_base}" if search.knowledge_base else ""
    print(f"search: {search.engine_type}{corpus}, {settings.top_k} documents a query unless asked otherwise")
    print(f"serving on {url} with {args.workers} worker{'s' if args.workers > 1 else ''}; Ctrl-C stops")
    header = "" if settings.token is None else "-H 'Authorization: Bearer TOKEN' "
    body = '{"queries": ["who wrote it"], "topk": 3, "return_scores": true}'
    print(f"  try: curl {url}/retrieve {header}-d '{body}'")
    pages = f"{url}/docs, /metrics, /healthz" + (", MCP at /mcp" if args.mcp_http else "")
    print(f"  see: {pages}", flush=True)
    if settings.token is None and not is_loopback(listener):
        print(f"  warning: whoever reaches {args.host} can search; --token asks for a password", flush=True)
