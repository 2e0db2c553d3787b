#!/usr/bin/env bash
# The rules of the house that a compiler does not check:
#   - imports run one way: kernels <- engine <- nn <- viz, engine <- weights, tools on top
#   - no type of another library in a public header
#   - files compiled for wider instruction sets include intrinsics and plain structs only
#   - the README's reading list gives the true line counts
# Prints each violation and exits 1 if there is any. Usage: check_tree.sh [TREE]
set -uo pipefail
cd "${1:-$(dirname "$0")/../..}" || exit 1
failures=0
fail() {
  echo "$1"
  failures=$((failures + 1))
}

# room: rooms it may not include
forbid() {
  local room=$1
  shift
  for other in "$@"; do
    while IFS= read -r hit; do fail "$room must not include $other: $hit"; done \
      < <(grep -rnE "#include [\"<](grapnel/)?$other/" "$room" --include='*.h' --include='*.cpp' --include='*.inc')
  done
}
forbid kernels engine nn weights viz tools
forbid engine nn weights viz tools
forbid nn weights viz tools
forbid weights nn viz tools
forbid viz weights kernels tools

# engine/eigen.h is the optional guest.
while IFS= read -r hit; do fail "another library in a public header: $hit"; done \
  < <(grep -nE '#include [<"](Eigen|omp\.h|stb|CLI|nlohmann|cuda|doctest|immintrin)' \
    $(find engine nn weights viz -name '*.h' ! -path engine/eigen.h) kernels/*.h)

while IFS= read -r hit; do fail "a wide-instruction file includes a standard header: $hit"; done \
  < <(grep -nE '#include <(algorithm|vector|string|cmath|memory|functional|utility|array|span)>' \
    $(find kernels \( -name avx2.cpp -o -name avx512.cpp \)))

# Rows such as "| `engine/tensor.h` | 188 | ... |"
listed=0
while IFS='|' read -r _ file lines _; do
  file=$(tr -d ' `' <<<"$file")
  lines=$(tr -d ' ' <<<"$lines")
  listed=$((listed + 1))
  [ -f "$file" ] || { fail "README.md lists $file, which does not exist"; continue; }
  actual=$(wc -l <"$file")
  [ "$lines" = "$actual" ] || fail "README.md says $file has $lines lines, it has $actual"
done < <(grep -E '^\| *`(kernels|engine|nn|weights|viz)/[^`]*` *\| *[0-9]+ *\|' README.md)
[ "$listed" -ge 10 ] || fail "README.md's reading list was not found"

[ "$failures" -eq 0 ] && echo "the tree keeps its rules ($listed files in the reading list)"
exit $((failures > 0))
