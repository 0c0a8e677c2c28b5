"""The benchmark: drives any vhost-user-gpu back-end with one front-end and measures it."""
