# make install: a self-contained tree under $(PREFIX)/lib/vhost-gpu, the commands, units, discovery file and man pages.
# Takes the build environment's own packages, so nothing is downloaded. DESTDIR is for packagers.
PREFIX ?= /usr/local
DESTDIR ?=

.PHONY: install uninstall
install: build
	$(BIN)/python systemd/install.py --prefix "$(PREFIX)" --destdir "$(DESTDIR)"

uninstall:
	$(PYTHON) systemd/install.py --prefix "$(PREFIX)" --destdir "$(DESTDIR)" --uninstall
