/*
 * statement_narrow.c: a table that a statement reads only in part.
 *
 * Let the conditions of a query, of its WHERE or of an inner join, hold
 * column = value for every column of a watched table's format.  A row where
 * one of them differs cannot be part of the result, nor keep another row out
 * of it: in WHERE it is filtered whatever it was joined with, and an inner
 * join drops it.  Whoever writes a row with these values, before or after,
 * publishes the tag made of them.  So the result depends on that tag.
 *
 * Equality has to be equality of texts, for tags are texts: integers, uuid,
 * and text under a deterministic collation.
 */
#include "postgres.h"

#include "cache/query.h"
#include "cache/watch.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "storage/lockdefs.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"

/* ---- conditions ---- */

static void
collect(Node *node, List **conditions)
{
	ListCell *cell;

	if (node == NULL)
		return;
	if (IsA(node, List))
	{
		foreach (cell, (List *) node)
			collect(lfirst(cell), conditions);
	}
	else if (IsA(node, FromExpr))
	{
		collect((Node *) ((FromExpr *) node)->fromlist, conditions);
		collect(((FromExpr *) node)->quals, conditions);
	}
	else if (IsA(node, JoinExpr))
	{
		JoinExpr *join = (JoinExpr *) node;

		collect(join->larg, conditions);
		collect(join->rarg, conditions);
		if (join->jointype == JOIN_INNER)
			collect(join->quals, conditions);
	}
	else if (is_andclause(node))
		collect((Node *) ((BoolExpr *) node)->args, conditions);
	else if (IsA(node, OpExpr))
		*conditions = lappend(*conditions, node);
}

static Node *
strip(Node *node)
{
	while (node != NULL && IsA(node, RelabelType))
		node = (Node *) ((RelabelType *) node)->arg;
	return node;
}

static bool
is_equality_of_texts(OpExpr *op)
{
	switch (get_opcode(op->opno))
	{
		case F_INT2EQ:
		case F_INT4EQ:
		case F_INT8EQ:
		case F_INT24EQ:
		case F_INT42EQ:
		case F_INT28EQ:
		case F_INT82EQ:
		case F_INT48EQ:
		case F_INT84EQ:
		case F_UUID_EQ:
			return true;
		case F_TEXTEQ:
			return OidIsValid(op->inputcollid) && get_collation_isdeterministic(op->inputcollid);
		default:
			return false;
	}
}

/* A type whose texts are equal when its values are. */
static bool
is_plain_type(Oid type)
{
	return type == INT2OID || type == INT4OID || type == INT8OID || type == UUIDOID ||
		   type == TEXTOID || type == VARCHAROID;
}

/* What the conditions bind the column to: a Param of the call or a Const; NULL: nothing. */
static Node *
bound(List *conditions, int rtindex, AttrNumber column)
{
	ListCell *cell;

	foreach (cell, conditions)
	{
		OpExpr *op = lfirst(cell);

		if (list_length(op->args) != 2 || !is_equality_of_texts(op))
			continue;
		for (int i = 0; i < 2; i++)
		{
			Var *var = (Var *) strip(list_nth(op->args, i));
			Node *value = strip(list_nth(op->args, 1 - i));

			if (!IsA(var, Var) || var->varno != rtindex || var->varattno != column ||
				var->varlevelsup != 0 || !is_plain_type(var->vartype))
				continue;
			if (!is_plain_type(exprType(value)))
				continue;
			if (IsA(value, Param) && ((Param *) value)->paramkind == PARAM_EXTERN)
				return value;
			if (IsA(value, Const) && !((Const *) value)->constisnull)
				return value;
		}
	}
	return NULL;
}

/* ---- tags ---- */

static char *
const_text(Const *value)
{
	Oid output;
	bool varlena;

	getTypeOutputInfo(value->consttype, &output, &varlena);
	return OidOutputFunctionCall(output, value->constvalue);
}

static bool
make_tag(CachedStatement *s, List *conditions, int rtindex, Oid relid, const char *format,
		 RowTag *tag)
{
	List *parts = eduai_cache_format_parse(format);
	ListCell *cell;

	if (list_length(parts) < 2)
		return false;
	tag->table = eduai_cache_dep_table(MyDatabaseId, relid);
	tag->nparts = 0;
	tag->parts = palloc0(sizeof(RowTagPart) * list_length(parts));
	foreach (cell, parts)
	{
		FormatPart *part = lfirst(cell);
		RowTagPart *to = &tag->parts[tag->nparts++];
		Node *value;

		to->text = pstrdup(part->text);
		if (part->column == NULL)
			break;
		value = bound(conditions, rtindex, get_attnum(relid, part->column));
		if (value == NULL)
			return false;
		if (IsA(value, Const))
			to->text = psprintf("%s%s", part->text, const_text((Const *) value));
		else
			to->param = ((Param *) value)->paramid;
	}
	return true;
}

/* Do all the relations that hold its rows have the format? */
static bool
is_everywhere(List *relations, const char *format)
{
	ListCell *cell, *other;

	foreach (cell, relations)
	{
		bool found = false;

		foreach (other, eduai_cache_watch_formats(lfirst_oid(cell)))
			found = found || strcmp(lfirst(other), format) == 0;
		if (!found)
			return false;
	}
	return true;
}

bool
eduai_cache_statement_narrow(CachedStatement *s, Query *query, int rtindex)
{
	RangeTblEntry *rte = list_nth(query->rtable, rtindex - 1);
	List *formats = eduai_cache_watch_formats(rte->relid);
	List *conditions = NIL;
	List *relations;
	ListCell *cell;
	RowTag tag;

	if (formats == NIL)
		return false;
	collect((Node *) query->jointree, &conditions);
	relations = rte->inh ? find_all_inheritors(rte->relid, AccessShareLock, NULL)
						 : list_make1_oid(rte->relid);
	foreach (cell, formats)
	{
		if (!is_everywhere(relations, lfirst(cell)) ||
			!make_tag(s, conditions, rtindex, rte->relid, lfirst(cell), &tag))
			continue;
		for (int i = 0; i < tag.nparts; i++)
			if (tag.parts[i].param > 0)
				s->params[tag.parts[i].param - 1].keyed = true;
		s->rows =
			s->rows ? repalloc(s->rows, sizeof(RowTag) * (s->nrows + 1)) : palloc(sizeof(RowTag));
		s->rows[s->nrows++] = tag;
		return true;
	}
	return false;
}
