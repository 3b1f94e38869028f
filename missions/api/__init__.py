"""The API of missions, sorties, agents and events. Endpoints only: the work is done by `operations` and `queries`.

`urls` has the routes. The response serializers that several modules share are in `responses`.
"""
