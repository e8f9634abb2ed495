# needs: git
set -eu
git init -q .
echo a > a
git add a
git commit -qm one
git mv a b
git commit -qam two
git branch side
git checkout -q side
test "$(git log --oneline | wc -l)" -eq 2
git remote add origin ./elsewhere
echo c >> b
git stash -q
git stash pop -q
git diff --quiet && exit 1
git config user.name somebody
git worktree add -q tree
git clone -q . clone
git gc -q
git fsck --strict
