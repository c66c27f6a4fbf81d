"""The bundled device profiles, one YAML file per device and runtime."""
