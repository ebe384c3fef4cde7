// Ordinary programs over a view: what people and agents do all day must work as it does without one. Each story is a shell script
// that ends with 0; it runs in the view's root as the sandbox's user, over a codebase with hidden and read-only parts.
// Invariant: a story says in its name what must work, and its script fails loudly when it does not.

import { mkdirSync, writeFileSync } from "node:fs";
import { execFileSync } from "node:child_process";
import { join } from "node:path";
import { policyOf } from "../fixtures/view-lab.ts";
import type { ViewBed } from "./view.ts";

const POLICY = policyOf(["write", "**"], ["read", "/vendor/**"], ["none", ".env*"], ["none", "*.key"], ["none", "secrets/"]);

export interface Story {
  readonly name: string;
  readonly script: string;
}

export const STORIES: readonly Story[] = [
  {
    name: "git status is clean, commits, makes branches and stashes",
    script: `
      git status --porcelain > .git/status
      test ! -s .git/status || { cat .git/status; exit 1; }
      echo '// more' >> src/main.c; git add -A; git commit -q -m more; git log --oneline | grep -c . | grep -qx 2
      git checkout -q -b other; git mv src/util.c src/moved.c; git commit -q -m moved; git checkout -q -; test -e src/util.c
      echo dirty >> README; git stash -q; ! grep dirty README; git stash pop -q; grep -q dirty README; git gc -q; git fsck --no-progress`,
  },
  {
    name: "git clone of the view and back",
    script:
      "git clone -q . copy; (cd copy; echo c > c; git add c; git -c user.name=a -c user.email=a@b commit -q -m c); git fetch -q copy; rm -rf copy",
  },
  {
    name: "an editor saves by rename, and keeps a backup by link",
    script:
      "cp README .README.swp; echo new > .README.tmp; chmod --reference=README .README.tmp; ln README README~; mv .README.tmp README; grep -qx new README; rm .README.swp README~",
  },
  {
    name: "packages are put in place by renaming directories over",
    script: `
      mkdir -p node_modules/.stage/pkg; echo 2 > node_modules/.stage/pkg/index.js; mv node_modules/pkg node_modules/.old-pkg
      mv node_modules/.stage/pkg node_modules/pkg; rm -rf node_modules/.old-pkg node_modules/.stage; grep -qx 2 node_modules/pkg/index.js`,
  },
  {
    name: "a directory tree is moved, moved back and removed",
    script:
      "mv src lib; test -f lib/deep/er/x.c; mv lib src; cp -a src src2; mv src2/deep src2/d; rm -rf src2; test ! -e src2; test -f src/deep/er/x.c",
  },
  {
    name: "tar packs, unpacks and unpacks over",
    script: "tar cf t.tar src; mkdir out; tar xf t.tar -C out; diff -r src out/src; tar xf t.tar; rm -r out t.tar",
  },
  {
    name: "sqlite keeps a database, with a journal and with a write-ahead log",
    script: `
      for mode in delete wal; do sqlite3 db "pragma journal_mode=$mode; create table if not exists t(x); insert into t values (1)" > /dev/null; done
      test "$(sqlite3 db 'select count(*) from t; pragma integrity_check')" = "2
ok"; sqlite3 kept.db 'insert into t values (2)'; test "$(sqlite3 kept.db 'select sum(x) from t')" = 3; rm db*`,
  },
  {
    name: "make builds, sees what is up to date, and rebuilds what was touched",
    script: "make -s; ./prog | grep -qx built; make -q; sleep 0.01; touch src/main.c; ! make -q; make -s; make -s clean; test ! -e prog",
  },
  {
    name: "python compiles a tree and runs from it",
    script:
      "/usr/bin/python3 -m compileall -q py; test -d py/__pycache__; /usr/bin/python3 -B -c 'import sys; sys.path.insert(0, \"py\"); import mod; assert mod.X == 1'; rm -r py/__pycache__",
  },
  {
    name: "two appenders to one file lose no line",
    script: `
      for who in a b; do (i=0; while [ $i -lt 300 ]; do echo $who$i >> log; i=$((i+1)); done) & done; wait; test "$(sort -u log | wc -l)" = 601`,
  },
  {
    name: "a reader keeps reading what a writer appends",
    script: "exec 3< log; head -1 <&3 > /dev/null; echo later >> log; cat <&3 | grep -qx later",
  },
  {
    name: "a file is edited in place and by truncation",
    script:
      "sed -i s/one/two/ notes; grep -q two notes; : > notes; test ! -s notes; truncate -s 1M notes; test $(stat -c %s notes) = 1048576",
  },
  {
    name: "what may only be read is read, searched and executed, and not changed",
    script:
      "grep -q lib vendor/lib.sh; sh vendor/lib.sh | grep -qx lib; vendor/run.sh | grep -qx ran; ! rm -f vendor/lib.sh; ! sh -c 'echo x > vendor/new' 2> /dev/null; ! mv vendor v2 2> /dev/null; test -f vendor/lib.sh",
  },
  {
    name: "what is hidden stands in nobody's way",
    script:
      "test ! -e .env; test ! -e src/a.key; find . -name '*.key' | grep -q . && exit 1; mkdir secrets; echo mine > secrets/own; cat secrets/own | grep -qx mine; rm -r secrets; rm -rf gone; test ! -e gone",
  },
  {
    name: "everything that may be removed is removed by rm -rf",
    script:
      "rm -rf src py node_modules .git notes log README Makefile; test ! -e src; test ! -e .git; ls -A | sort | tr '\\n' ' ' | grep -qx 'kept.db ops vendor '",
  },
];

function fill(base: string): void {
  const files: Readonly<Record<string, string>> = {
    README: "readme\n",
    notes: "one\n",
    log: "first\n",
    ".env": "SECRET=1\n",
    "secrets/k": "k\n",
    "src/a.key": "key\n",
    "gone/only.key": "key\n",
    "src/main.c": '#include <stdio.h>\nint util(void);\nint main(void) { if (util()) puts("built"); }\n',
    "src/util.c": "int util(void) { return 1; }\n",
    "src/deep/er/x.c": "int x;\n",
    Makefile: "prog: src/main.c src/util.c\n\tcc -o prog src/main.c src/util.c\nclean:\n\trm -f prog\n",
    "py/mod.py": "X = 1\n",
    "node_modules/pkg/index.js": "1\n",
    "vendor/lib.sh": "echo lib\n",
    "vendor/run.sh": "#!/bin/sh\necho ran\n",
  };
  for (const [path, content] of Object.entries(files)) {
    mkdirSync(join(base, path, ".."), { recursive: true });
    writeFileSync(join(base, path), content);
  }
  const git =
    "chmod 755 vendor/run.sh; sqlite3 kept.db 'create table t(x); insert into t values (1)'; printf 'log\\nkept.db\\n*.key\\n.env\\nsecrets\\nops\\nprog\\n__pycache__\\n' > .git-ignore; git init -q; cp .git-ignore .git/info/exclude; rm .git-ignore; git add -A; git -c user.name=a -c user.email=a@b commit -q -m first";
  execFileSync("sh", ["-eu", "-c", git], { cwd: base, stdio: ["ignore", "ignore", "inherit"] });
}

/** Runs the stories one after the other in one view; returns those that failed, with what they said. */
export async function failedStories(bed: ViewBed): Promise<string[]> {
  const base = bed.emptyCodebase();
  fill(base);
  execFileSync("cp", [bed.ops, join(base, "ops")]);
  const inside = await bed.enter(base, POLICY);
  const set =
    "export HOME=/nonexistent GIT_CONFIG_COUNT=3 GIT_CONFIG_KEY_0=safe.directory GIT_CONFIG_VALUE_0='*' GIT_CONFIG_KEY_1=user.name GIT_CONFIG_VALUE_1=a GIT_CONFIG_KEY_2=user.email GIT_CONFIG_VALUE_2=a@b";
  const failed: string[] = [];
  for (const { name, script } of STORIES) {
    const { status, stderr, stdout } = await inside.run(["/bin/sh", "-eu", "-c", `${set}\n${script}`]);
    if (status !== 0) failed.push(`${name}: ${status} ${stdout}${stderr}`);
  }
  return failed;
}
