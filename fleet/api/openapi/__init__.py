"""The OpenAPI document: generated from the endpoints' declarations, with examples, and the page that shows it."""
