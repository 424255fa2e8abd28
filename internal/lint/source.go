package lint

import (
	"go/ast"
	"go/token"
	"strconv"
	"strings"

	"github.com/hearth-run/hearth/schema"
)

// call is one function of another package that some code must not call.
type call struct {
	pkg, name string
	where     func(*Tree, *File) bool
	reason    string
}

var calls = []call{
	{"time", "Sleep", func(t *Tree, f *File) bool { return (f.Test() || t.helper(f)) && f.localName("testing/synctest") == "" },
		"a test waits for a condition under a deadline, or runs in a bubble"},
	{"os", "Create", func(t *Tree, f *File) bool { return t.product(f) && under(f.Folder(), "worker") },
		"it follows links and lets everybody read: open with O_EXCL and a mode, through os.Root where names are not ours"},
	{"os", "Getenv", belowCommand, "flags, environment and file meet in cmd; below it nobody reads the environment"},
	{"os", "LookupEnv", belowCommand, "flags, environment and file meet in cmd; below it nobody reads the environment"},
	{"os", "Environ", belowCommand, "nothing is inherited by accident: an environment is given as a whole"},
	{"os", "Setenv", belowCommand, "nobody sets the environment of his own process"},
	{"log", "Fatal", (*Tree).product, "only main ends the process"},
	{"log", "Fatalf", (*Tree).product, "only main ends the process"},
	{"os", "Exit", func(t *Tree, f *File) bool { return t.product(f) && !f.Command() }, "only main ends the process"},
}

func belowCommand(t *Tree, f *File) bool { return t.product(f) && !under(f.Folder(), "cmd") }

// allowed are exceptions to [Calls], by folder and function, with their reasons.
var allowed = map[string]string{
	"worker/driver/process os.Exit": "Main is a program of its own: the re-executed child",
}

// Calls finds calls that the house does without.
func Calls(t *Tree) []Finding {
	var found []Finding
	for _, f := range t.Files {
		for _, c := range calls {
			local := f.localName(c.pkg)
			if local == "" || !c.where(t, f) || allowed[f.Folder()+" "+c.pkg+"."+c.name] != "" {
				continue
			}
			ast.Inspect(f.Syntax, func(n ast.Node) bool {
				s, ok := n.(*ast.SelectorExpr)
				if !ok {
					return true
				}
				if x, ok := s.X.(*ast.Ident); ok && x.Name == local && s.Sel.Name == c.name {
					found = append(found, t.finding(s.Pos(), c.reason, "%s.%s", c.pkg, c.name))
				}
				return true
			})
		}
	}
	return found
}

// Statements finds bare go statements without a reason beside them, and init functions.
func Statements(t *Tree) []Finding {
	var found []Finding
	for _, f := range t.Files {
		if !t.product(f) {
			continue
		}
		commented := make(map[int]bool) // lines that hold a comment, and the line after
		for _, group := range f.Syntax.Comments {
			for line := t.line(group.Pos()); line <= t.line(group.End())+1; line++ {
				commented[line] = true
			}
		}
		ast.Inspect(f.Syntax, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.GoStmt:
				if !commented[t.line(n.Pos())] {
					found = append(found, t.finding(n.Pos(), "every goroutine has an owner that waits for it", "a bare go without its reason"))
				}
			case *ast.FuncDecl:
				if n.Name.Name == "init" && n.Recv == nil {
					found = append(found, t.finding(n.Pos(), "importing a package does nothing", "an init function"))
				}
			}
			return true
		})
	}
	return found
}

func (t *Tree) line(p token.Pos) int { return t.Fset.Position(p).Line }

// Codes finds error codes that are made from text and have no row in the table of errors.
func Codes(t *Tree) []Finding {
	var found []Finding
	for _, f := range t.Files {
		local := f.localName(t.Module + "/schema")
		if local == "" || f.Test() {
			continue
		}
		ast.Inspect(f.Syntax, func(n ast.Node) bool {
			c, ok := n.(*ast.CallExpr)
			if !ok || len(c.Args) != 1 {
				return true
			}
			fun, ok := c.Fun.(*ast.SelectorExpr)
			if !ok || fun.Sel.Name != "Code" {
				return true
			}
			x, isName := fun.X.(*ast.Ident)
			text, isText := c.Args[0].(*ast.BasicLit)
			if !isName || x.Name != local || !isText {
				return true
			}
			if code, err := strconv.Unquote(text.Value); err == nil && !schema.Code(code).Known() {
				found = append(found, t.finding(c.Pos(), "one table says of every code what to do", "code %q has no row", code))
			}
			return true
		})
	}
	return found
}

// Lengths of files in lines: above the first a second idea is looked for, above the second it must have been found.
const (
	LongFile    = 400
	TooLongFile = 450
)

// Lengths finds files of more lines than most.
func Lengths(t *Tree, most int) []Finding {
	var found []Finding
	for _, f := range t.Files {
		if f.Lines > most && !generated(f) {
			found = append(found, Finding{At: f.Path, Text: strconv.Itoa(f.Lines) + " lines", Reason: "one idea a file: look for the second"})
		}
	}
	return found
}

func generated(f *File) bool { return ast.IsGenerated(f.Syntax) }

// Docs finds exported names without a comment, and packages without their story. Programs and tests are left out.
func Docs(t *Tree) []Finding {
	const reason = "an exported name says what it is, in which unit, and who may call it when"
	var found []Finding
	story := make(map[string]bool)
	first := make(map[string]*File)
	for _, f := range t.Files {
		if f.Test() {
			continue
		}
		if first[f.Folder()] == nil {
			first[f.Folder()] = f
		}
		if f.Syntax.Doc != nil {
			story[f.Folder()] = true
		}
		if f.Command() {
			continue
		}
		for _, d := range f.Syntax.Decls {
			switch d := d.(type) {
			case *ast.FuncDecl:
				if d.Doc == nil && d.Name.IsExported() && exportedReceiver(d) {
					found = append(found, t.finding(d.Pos(), reason, "%s has no comment", d.Name.Name))
				}
			case *ast.GenDecl:
				for _, spec := range d.Specs {
					if name := bareName(d, spec); name != "" {
						found = append(found, t.finding(spec.Pos(), reason, "%s has no comment", name))
					}
				}
			}
		}
	}
	for folder, f := range first {
		if !story[folder] {
			found = append(found, t.finding(f.Syntax.Pos(), "a newcomer reads the package's story first", "package %s has none", folder))
		}
	}
	return found
}

// exportedReceiver reports whether a function belongs to no type, or to one that others see.
func exportedReceiver(d *ast.FuncDecl) bool {
	if d.Recv == nil || len(d.Recv.List) == 0 {
		return true
	}
	typ := d.Recv.List[0].Type
	for {
		switch x := typ.(type) {
		case *ast.StarExpr:
			typ = x.X
		case *ast.IndexExpr:
			typ = x.X
		case *ast.IndexListExpr:
			typ = x.X
		case *ast.Ident:
			return x.IsExported()
		default:
			return false
		}
	}
}

// bareName is an exported name of the declaration that neither it nor its group explains; "" if there is none.
func bareName(d *ast.GenDecl, spec ast.Spec) string {
	switch s := spec.(type) {
	case *ast.TypeSpec:
		if s.Name.IsExported() && s.Doc == nil && s.Comment == nil && (d.Doc == nil || d.Lparen.IsValid()) {
			return s.Name.Name
		}
	case *ast.ValueSpec:
		for _, name := range s.Names {
			if name.IsExported() && s.Doc == nil && s.Comment == nil && d.Doc == nil {
				return strings.TrimSpace(name.Name)
			}
		}
	}
	return ""
}
