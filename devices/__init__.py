"""What it costs there: device profiles and their memory, latency and energy models."""
