"""Read, inspect, compile and write wheels."""
