"""The API of missions, sorties, agents and events. Endpoints only: the work is done by `operations` and `queries`."""
