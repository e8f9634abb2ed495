# needs: cmake gcc
set -eu
printf 'cmake_minimum_required(VERSION 3.10)\nproject(p C)\nadd_executable(p p.c)\n' > CMakeLists.txt
echo 'int main(void) { return 0; }' > p.c
cmake -S . -B b >/dev/null
cmake --build b >/dev/null
b/p
