#!/usr/bin/env bash
# Installs the fonts of font_packages.txt into a folder and writes the catalogue fonts.json there.
#
#     datasets/drawn/install_fonts.sh FOLDER
#
# Needs Debian or Ubuntu (apt-get, dpkg-deb), npm, and Python with requirements.txt installed; the
# environment variable PYTHON names another interpreter than python3.
# The packages are unpacked into FOLDER; nothing is installed on the system.
set -euo pipefail

folder=$(realpath -m "${1:?usage: $0 FOLDER}")
here=$(dirname "$(realpath "$0")")
packages="$here/font_packages.txt"
mkdir -p "$folder/debian" "$folder/npm" "$folder/archives"

cd "$folder/archives"
awk '$1 == "debian" {print $2}' "$packages" | sort -u | while read -r package; do
    compgen -G "${package}_*.deb" > /dev/null || apt-get download -q "$package" \
        || echo "$package: not in the package lists; run apt-get update?" >&2
done
compgen -G "*.deb" > /dev/null || { echo "no font package was downloaded" >&2; exit 1; }
for archive in *.deb; do
    case $(dpkg-deb --field "$archive" Section) in
        */*) echo "$archive: left out, not of the section main" >&2; continue ;;
    esac
    mkdir -p "$folder/debian/${archive%%_*}"
    dpkg-deb --extract "$archive" "$folder/debian/${archive%%_*}"
done

cd "$folder/npm"
[ -f package.json ] || echo '{"private": true}' > package.json
awk '$1 == "npm" {print "@fontsource/" $2 "@5"}' "$packages" | sort -u \
    | xargs npm install --ignore-scripts --no-audit --no-fund --loglevel=error

cd "$here/../.."
python=${PYTHON:-python3}
"$python" -m datasets.drawn.catalogue "$folder"
