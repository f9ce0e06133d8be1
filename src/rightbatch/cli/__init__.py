"""The command line: one file a verb, each thin: parse, call one function, print."""
