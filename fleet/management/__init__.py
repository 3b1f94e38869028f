"""The commands of the base layer. `operator.OperatorCommand` is the base class of all commands of the fleet."""
