# needs: gcc make
set -eu
printf 'int main(void) { return 7; }' > m.c
printf 'm: m.c\n\tgcc -O1 -o m m.c\n' > Makefile
make -s -j2
status=0
./m || status=$?
test "$status" -eq 7
