"""``/v1/streams/{request_id}``: a stream that was broken off, from where it broke off."""
