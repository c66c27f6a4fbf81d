"""Training in C: an applied policy as plain C99 that trains on a microcontroller, without a heap or a runtime."""
