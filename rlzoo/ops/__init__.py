"""Pure functions: random numbers, schedules, returns, losses. No state, no Keras layers."""
