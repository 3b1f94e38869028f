"""The control loop: admission, rescue, completion, alerts and autoscaling.

`loop.beat` is the one place that orders the duties. Every duty is safe to repeat and to run in two processes at once.
"""
