"""The verbs of the command line, one file each: options in, one call of the library, text out."""
