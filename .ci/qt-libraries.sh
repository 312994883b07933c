#!/bin/sh
# Is Qt able to start with the Python given? If not, install its system libraries (as root on Debian), or say how.
set -u
python=$1
packages="libgl1 libegl1 libxkbcommon-x11-0 libdbus-1-3 libfontconfig1 libxcb-icccm4 libxcb-image0 libxcb-keysyms1 libxcb-randr0 libxcb-render-util0 libxcb-shape0 libxcb-xinerama0 libxcb-xkb1 fonts-dejavu-core"
probe='from PyQt5.QtWidgets import QApplication; from PyQt5 import QtOpenGL; QApplication([])'
starts() { QT_QPA_PLATFORM=offscreen "$python" -c "$probe" >/dev/null 2>&1; }
starts && exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
  echo "installing the system libraries that Qt needs"
  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $packages >/dev/null
  starts && exit 0
fi
echo "Qt does not start: a system library is missing. On Debian or Ubuntu type:"
echo "  sudo apt-get install $packages"
echo "Everything that needs no screen works without it."
exit 1
