"""Redis: the clients of the fleet's code, and Celery's transport. Addresses are parsed in `fleet.config.redis_address`."""
