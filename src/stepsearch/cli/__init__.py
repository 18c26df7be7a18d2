"""The command line: parse, build the objects, run. The only place where the parts are put together."""
