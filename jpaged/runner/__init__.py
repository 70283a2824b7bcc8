"""Where the scheduler's integers meet the device.  The only place that calls `jax.jit`."""
