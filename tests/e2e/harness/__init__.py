"""Real guests for the end-to-end tests: QEMU, its monitor, a command line inside the guest, our daemon and viewer."""
