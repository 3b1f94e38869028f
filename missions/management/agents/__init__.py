"""The actions of `fleet_agents` and `fleet_spawn`, by what they show or change."""
