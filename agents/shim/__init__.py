"""The process between a worker and the work of one attempt. It imports nothing of the fleet: a start must be quick."""
