"""The control loop: admission, rescue, completion, alerts and autoscaling.

`loop.ControlLoop.beat` defines the order of the duties. Every duty is safe to repeat and to run in two processes at
once.
"""
