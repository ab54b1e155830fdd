"""One OpenAPI document of everything that programs may ask, and the pages made of the same."""
