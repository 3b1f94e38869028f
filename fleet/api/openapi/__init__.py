"""The OpenAPI document, generated from the declarations of the endpoints, and the page that shows it."""
