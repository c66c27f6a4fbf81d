"""The ground floor: errors, units, files, formats, registries and listings; nothing of what TinySearch is about."""
