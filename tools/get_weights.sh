#!/usr/bin/env bash
# Fetches the published ImageNet weights of a network, verified, resumable and atomic.
#
#   tools/get_weights.sh NAME [DIR]    prints the path of the file
#
# GRAPNEL_WEIGHTS_URL replaces the address of the folder that the files are fetched from.
set -euo pipefail

url=${GRAPNEL_WEIGHTS_URL:-https://download.pytorch.org/models}

# name, file, SHA-256, bytes: the same as in weights/catalogue.cpp (a test compares them).
catalogue='
resnet18 resnet18-f37072fd.pth f37072fd47e89c5e827621c5baffa7500819f7896bbacec160b1a16c560e07ec 46830571
resnet34 resnet34-b627a593.pth b627a593bcbe140c234610266fe4f8ae95ea42fc881d091c9b6052e6b1d0590f 87319819
vgg16 vgg16-397923af.pth 397923af8e79cdbb6a7127f12361acd7a2f83e06b05044ddf496e83de57a5bf0 553433881
'

die() {
  echo "get_weights.sh: $*" >&2
  exit 2
}

help() {
  echo "usage: get_weights.sh NAME [DIR]"
  echo
  echo "Fetches a network's ImageNet weights into DIR (default: \${XDG_CACHE_HOME:-~/.cache}/grapnel) and prints the path."
  echo "An interrupted download is resumed; a file that is there and verified is not fetched again."
  echo
  while read -r name file _ bytes; do
    [ -z "$name" ] || printf '  %-10s %4d MB  %s\n' "$name" $((bytes / 1000000)) "$file"
  done <<<"$catalogue"
}

sha256() {
  "${hash[@]}" <"$1" | cut -d' ' -f1
}

size() {
  if [ -e "$1" ]; then wc -c <"$1" | tr -d ' '; else echo 0; fi
}

case ${1:-} in
  '' | -h | --help)
    help
    exit 0
    ;;
esac
[ $# -le 2 ] || die "expected NAME [DIR], got $# arguments"

read -r _ file expected bytes <<<"$(grep "^$1 " <<<"$catalogue" || true)"
[ -n "${file:-}" ] || die "no weights named '$1'; there are resnet18, resnet34 and vgg16"

if command -v sha256sum >/dev/null; then
  hash=(sha256sum)
elif command -v shasum >/dev/null; then
  hash=(shasum -a 256)
else
  die "neither sha256sum nor shasum is installed, and a file that cannot be verified is not used"
fi

dir=${2:-${XDG_CACHE_HOME:-$HOME/.cache}/grapnel}
mkdir -p "$dir" 2>/dev/null || die "cannot make the folder '$dir'"
target=$dir/$file
part=$target.part

if [ -e "$target" ]; then
  if [ "$(sha256 "$target")" = "$expected" ]; then
    echo "$target"
    exit 0
  fi
  die "'$target' is not the published file (SHA-256 differs); remove it to fetch it again"
fi

fetch() {
  curl --fail --location --retry 3 --continue-at - --output "$part" "$@" "$url/$file"
}

command -v curl >/dev/null || die "curl is not installed"
if [ "$(size "$part")" -gt "$bytes" ]; then rm -f "$part"; fi
# A download that was completed but not renamed cannot be resumed: there is nothing left to ask for.
if [ "$(size "$part")" -lt "$bytes" ]; then
  if [ -t 2 ]; then
    fetch --progress-bar || die "cannot fetch $url/$file"
  else
    reason=$(fetch --silent --show-error 2>&1) || die "cannot fetch $url/$file: $reason"
  fi
fi

if [ "$(sha256 "$part")" != "$expected" ]; then
  rm -f "$part"
  die "what $url/$file gave is not the published file (SHA-256 differs); nothing was kept"
fi
mv -f "$part" "$target"
echo "$target"
